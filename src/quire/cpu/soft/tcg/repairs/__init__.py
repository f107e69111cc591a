"""Instructions that the engine's library computes wrongly, computed by the processor that it runs on."""
