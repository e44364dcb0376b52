"""The engine over HTTP: OpenAI's and Ollama's formats, photos as they are, and a page."""
