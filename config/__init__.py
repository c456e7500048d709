"""What is set: the ground every other package stands on. It imports none of them."""
