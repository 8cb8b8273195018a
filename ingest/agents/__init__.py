"""The site's side of edge agents: their program, and the configuration that it sets for them."""
