"""The HTTP API of the contact centre, and the web site it and all pages hang on."""
