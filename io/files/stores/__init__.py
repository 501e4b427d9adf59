"""Where files lie: each store lists, opens and reads them."""
