"""Records of tokens, so that they can be revoked, and service tokens used only once."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class TokenFamily(models.Model):
    """One sign-in of a user, or one exchange of an API key, and all tokens issued from it.

    A refresh token has two random parts: the first identifies the family, the second is valid for one refresh. Only
    their hashes are stored. A token with the first part and an older second part has been used already.
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
    def owner(self) -> models.Model:
        """The user or the key of the family; one of them is set."""
        owner = self.user or self.key
        assert owner is not None
        return owner


class UsedServiceToken(models.Model):
    """A service token that has been used, kept until it has expired, since it is accepted only once."""

    digest = models.BinaryField(max_length=32, primary_key=True, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "ingest"
