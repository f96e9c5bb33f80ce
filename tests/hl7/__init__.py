"""HL7 v2: bytes, orders, acknowledgements, sockets."""
