"""Positions: how far the source of a sync was read, and who may say so. Stored between rounds."""

from __future__ import annotations

from vecferry.positions.position import Position as Position
