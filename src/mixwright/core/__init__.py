"""The nouns: frozen, validated on construction, numpy only."""
