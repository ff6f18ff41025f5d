"""The interfaces of `speechbridge.cluster`, in Redis, for several processes. Imported only if Redis is used."""
