"""Upstairs: the contact centre itself, from a customer's press on Help to two people talking."""
