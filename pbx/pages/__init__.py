"""The pages of those who work here: the agent's own page, and the context of a contact."""
