"""What those on call look at: the ladder of SIP messages, the event log, the guard, metrics."""
