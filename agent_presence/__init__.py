"""Who can help, and where they are: agents, their devices, their state, and the addresses their phones registered."""
