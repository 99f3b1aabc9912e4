"""Where ideas come from: one protocol, one module a source."""
