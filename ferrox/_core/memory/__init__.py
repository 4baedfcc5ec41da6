"""Memory: the pool, storage over it, blocks that lie on several devices."""
