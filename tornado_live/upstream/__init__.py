"""The way to Gemini Live: one logical connection over as many real ones as it takes."""
