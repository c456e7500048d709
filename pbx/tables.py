"""Every package's tables, on `config.database.metadata`, for migrations."""

import agent_presence.store
import config.events
import config.login
import kb_portal.store
import pbx.quality_store
import pbx.recording_store
import pbx.store

__all__ = ["agent_presence", "config", "kb_portal", "pbx"]
