"""The audit trail: who did what to which agent. Chained, kept by sinks, and never on the way of a call."""
