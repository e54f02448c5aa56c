"""One model server: the client protocol, its dialects and their capabilities."""
