"""The server: models by name, one scheduler each, behind the HTTP surfaces of OpenAI and Ollama."""
