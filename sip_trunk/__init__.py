"""Everything SIP on the wire: the protocol, its transports, transactions, calls and trunks."""
