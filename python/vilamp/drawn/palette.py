"""The words of the drawn world and what they look like: each list's order is the class number."""

COLOURS = {
    "red": (225, 30, 35),
    "orange": (255, 135, 0),
    "yellow": (250, 230, 40),
    "green": (25, 160, 45),
    "cyan": (40, 220, 230),
    "blue": (30, 60, 225),
    "purple": (130, 35, 175),
    "pink": (255, 120, 190),
    "white": (248, 248, 248),
    "black": (12, 12, 12),
}
SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "moon",
    "heart",
    "diamond",
    "hourglass",
)
PLACES = (
    "forest",
    "desert",
    "ocean",
    "snow",
    "city",
    "meadow",
    "cave",
    "sky",
    "volcano",
    "kitchen",
    "library",
    "night",
)
DIGITS = tuple("0123456789")
LETTERS = tuple("cehklptuxy")
GLYPHS = DIGITS + LETTERS

# Sides of the anchor where the smaller shapes sit, as (word, dx, dy) with y down.
SIDES = (("left", -1, 0), ("right", 1, 0), ("above", 0, -1), ("below", 0, 1))

COLOUR_NAMES = tuple(COLOURS)
