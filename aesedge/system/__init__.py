"""Talk to the operating system: files, paths, signals, threads, terminals, and facts about the machine."""
