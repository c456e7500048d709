"""What the packets do: SDP, RTP, WebRTC. Knows no SIP."""
