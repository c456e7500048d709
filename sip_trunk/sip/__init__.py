"""The SIP protocol itself: text, state machines and digest, with no clock, no socket and no event loop."""
