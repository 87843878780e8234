"""Drawn icons for templates: no picture is asked from anywhere."""

from __future__ import annotations

from hashlib import sha256

from markupsafe import Markup

from gatecast.controlplane.documents import LlmProviderTemplate

_HUES = 12


def logo(template: LlmProviderTemplate) -> Markup:
    """A square with the template's initials, in a colour that is always the same for it."""
    words = template.name.replace("-", " ").split()
    initials = "".join(word[0] for word in words[:2]).upper() if len(words) > 1 else template.name[:2].title()
    hue = sha256(template.handle.encode()).digest()[0] % _HUES * (360 // _HUES)
    return Markup(
        '<svg class="logo" viewBox="0 0 36 36" aria-hidden="true"><rect width="36" height="36" rx="6" '
        'fill="hsl({hue} 45% 38%)"/><text x="18" y="23.5" text-anchor="middle" font-size="15" font-weight="600" '
        'fill="#fff">{initials}</text></svg>'
    ).format(hue=hue, initials=initials)
