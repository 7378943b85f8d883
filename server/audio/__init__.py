"""Files -> clips: what decodes one, and where that happens: in threads, or in processes that may crash."""
