"""What options have a task wait for, besides its turn: one module a feature, over the drivers."""
