"""The operating system's side: files, streams, terminals; nothing here is about photos or models."""
