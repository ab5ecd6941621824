"""The report page of a folder of results: `kr_text.report.page.write_page`."""
