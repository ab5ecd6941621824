"""KL and Jensen-Shannon divergences between the rows of two tensors, in nats."""

import math

import torch
from torch import Tensor


def kl_divergence(log_label: Tensor, log_prediction: Tensor) -> Tensor:
    """(N,): D_KL(label || prediction) of each row, from log-probabilities (N, C)."""
    return (log_label.exp() * (log_label - log_prediction)).sum(1)


def reverse_kl_divergence(logits: Tensor, label_logits: Tensor) -> Tensor:
    """(N,): D_KL(prediction || label) of each row, from the logits (N, C) of both. The label must be detached.

    With p the prediction and r = log(p / label), the gradient w.r.t. `logits` is p_j (r_j - sum_i p_i r_i). A constant
    added to r cancels. So r is taken relative to the likeliest class of p, as a difference of logits: large terms that
    the classes share cancel before they are multiplied, and the gradient stays accurate for logits of 1e30.
    """
    likeliest = logits.argmax(1, keepdim=True)
    z = logits.detach()  # sum_j p_j d(log p_j) = 0, so the gradient flows through the factor p alone
    log_ratio = (z - z.gather(1, likeliest)) - (label_logits - label_logits.gather(1, likeliest))  # 0 at the likeliest
    at_likeliest = (z.log_softmax(1) - label_logits.log_softmax(1)).gather(1, likeliest)
    return (logits.softmax(1) * log_ratio).sum(1) + at_likeliest.squeeze(1)


def js_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(N,): Jensen-Shannon divergence of each row, from log-probabilities (N, C); at most log 2."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kl_divergence(log_p, log_mean) + kl_divergence(log_q, log_mean)) / 2
