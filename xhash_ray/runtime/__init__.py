"""The engine room: the only one that imports ray. Each file spreads the work of the room it is named after."""
