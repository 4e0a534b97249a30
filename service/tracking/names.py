"""Names for runs that were given none."""

from __future__ import annotations

import zlib

_MANNERS = """
amber bold brisk calm candid clever cosmic crisp dapper deft eager early fabled fair fleet gentle glad golden
hardy hazel humble icy jolly keen kind lively lucid lunar mellow merry mild misty nimble noble opal patient
plucky polar proud quick quiet rapid rustic sandy serene silver sleek snowy solar stark steady sunny swift
tidy vivid warm wise witty young zesty
"""
_CREATURES = """
badger bison bittern condor coyote crane curlew dingo dipper dove egret elk ermine falcon ferret finch fox
gannet gecko gibbon heron hare ibex ibis jackal jay kestrel kite koala lark lemur lynx magpie marten mole
moose newt ocelot orca osprey otter owl panda petrel pika plover puffin quail raven robin sable seal shrew
skua stoat stork swan tapir tern thrush vole walrus wombat wren
"""


def invent_name(run_id: str) -> str:
    """Two words and a number, always the same for the same id."""
    manners, creatures = _MANNERS.split(), _CREATURES.split()
    number = zlib.crc32(run_id.encode())
    return f"{manners[number % len(manners)]}-{creatures[(number >> 8) % len(creatures)]}-{(number >> 20) % 1000}"
