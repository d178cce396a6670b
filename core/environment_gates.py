"""The table [release.gates]: what must hold at each step of a shift."""

from core.section import Section


class Gates(Section):
    """What must hold before more traffic goes to the new version, and once it has all of it."""
