from django.apps import AppConfig
from django.contrib.auth import get_user_model
from django.db.models.signals import m2m_changed, post_delete, post_save


class IngestConfig(AppConfig):
    name = "ingest"

    def ready(self) -> None:
        from django.contrib.auth.models import Group

        from ingest.identity.users import announce_user_change
        from ingest.models import ApiKey
        from metrics.devices.group_membership import invalidate_caches
        from metrics.models import DeviceGroup

        # Every process caches the permissions of keys and tokens until the revision changes.
        people = get_user_model()
        for model in (people, Group):
            post_save.connect(announce_user_change, sender=model)
            post_delete.connect(announce_user_change, sender=model)
        post_delete.connect(
            announce_user_change, sender=ApiKey
        )  # also by cascade from its device or group, and by bulk deletes
        m2m_changed.connect(invalidate_caches, sender=people.groups.through)
        m2m_changed.connect(invalidate_caches, sender=DeviceGroup.members.through)
