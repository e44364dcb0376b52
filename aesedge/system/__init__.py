"""The operating system's side: files, streams, terminals, the environment; nothing here is about photos or models."""
