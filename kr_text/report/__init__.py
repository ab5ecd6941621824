"""The report page of a folder of results; see `kr_text.report.page.write_page`."""
