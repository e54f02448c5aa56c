"""
From responses to structured answers: what a text says, and nothing that it does not say.

The deterministic parsers (`knowledge_rules`, `politeness_rules`, `generic_rules`) need no model.
"""
