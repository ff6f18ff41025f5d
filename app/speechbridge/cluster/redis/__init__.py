"""What several processes share, in Redis: the port of `speechbridge.cluster`. Imported only where Redis is used."""
