"""What must be remembered of tokens so that they can be taken back, and taken once."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class TokenFamily(models.Model):
    """One sign-in of a person, or one exchange of an API key, and all tokens that came of it.

    A refresh token is two random parts: the first finds the family, the second is good for one refresh. Of both the
    hash alone is stored. Whoever knows the first part and not the newest second holds a spent token.
    """

    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    newest = models.BinaryField("digest of the newest second part", max_length=32, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    key = models.ForeignKey("ingest.ApiKey", null=True, on_delete=models.CASCADE, related_name="+")
    stamp = models.CharField(max_length=64, blank=True, editable=False, help_text="Changes with the password.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "ingest"
        verbose_name_plural = "token families"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=False, key__isnull=True)
                | models.Q(user__isnull=True, key__isnull=False),
                name="family_of_a_person_or_a_key",
            )
        ]

    @property
    def whose(self) -> models.Model:
        """The person or the key that the family speaks for: the one that there is."""
        found = self.user or self.key
        assert found is not None
        return found


class UsedServiceToken(models.Model):
    """A service token that was taken, until it has expired: no token is taken twice."""

    digest = models.BinaryField(max_length=32, primary_key=True, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "ingest"
