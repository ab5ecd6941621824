import torch
import torch.nn.functional as F

from kr_text.kernels.attention import attention, attention_by_products

LENGTHS = torch.tensor([[9], [4], [1], [7]])
VISIBLE = (torch.arange(9) < LENGTHS)[:, None, None]


def test_attention_by_products_is_scaled_dot_product_attention() -> None:
    query, key, value = torch.randn(3, 4, 2, 9, 8, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=VISIBLE)
    torch.testing.assert_close(attention_by_products(query, key, value, VISIBLE), expected)


def test_autocast_on_a_cpu_takes_the_products() -> None:
    query, key, value = torch.randn(3, 4, 2, 9, 8, dtype=torch.bfloat16)
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=VISIBLE)
    products = attention_by_products(query, key, value, VISIBLE)
    assert not torch.equal(fused, products)  # they round differently
    assert torch.equal(attention(query, key, value, VISIBLE), fused)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(query, key, value, VISIBLE), products)
