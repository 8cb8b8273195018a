"""People: what they may do is their role, what they see the device groups that they are members of."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, TextChoices
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator

from metrics.models import Device, DeviceGroup
from rest.caller import OPERATORS

ROLES = (
    "Viewers look at the devices of their groups. Operators also change alerts and what they are about."
    " Admins see everything and configure everything, here too."
)


class Role(TextChoices):
    """What a person may do (rest.caller)."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def _operates() -> Exists:
    return Exists(Group.objects.filter(name=OPERATORS, user=OuterRef("pk")))


class RoleFilter(admin.SimpleListFilter):
    title = "role"
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Role.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        match self.value():
            case Role.ADMIN:
                return queryset.filter(is_superuser=True)
            case Role.OPERATOR:
                return queryset.filter(_operates(), is_superuser=False)
            case Role.VIEWER:
                return queryset.filter(~_operates(), is_superuser=False)
        return queryset


class PersonForm(UserChangeForm):
    role = forms.ChoiceField(choices=Role.choices, help_text=ROLES)
    device_groups = forms.ModelMultipleChoiceField(
        DeviceGroup.objects.all(),
        required=False,
        widget=AutocompleteSelectMultiple(Device._meta.get_field("groups"), admin.site),
        help_text="Whose devices this person sees; admins see all devices.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["role"] = _role(self.instance)
        self.initial["device_groups"] = self.instance.device_groups.all()

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        stays = given.get("role") == Role.ADMIN and given.get("is_active")
        if _is_last_admin(self.instance) and not stays:
            raise ValidationError("This is the last active admin: make another one first.")
        return given


def _role(person: User) -> Role:
    if person.is_superuser:
        return Role.ADMIN
    return Role.OPERATOR if person.groups.filter(name=OPERATORS).exists() else Role.VIEWER


def _is_last_admin(person: User) -> bool:
    admins = User.objects.filter(is_superuser=True, is_active=True)
    return admins.filter(pk=person.pk).exists() and not admins.exclude(pk=person.pk).exists()


class PersonAdmin(UserAdmin):
    title = "People"
    help = ROLES
    form = PersonForm
    list_display = ("username", "full_name", "email", "role", "is_active", "last_login")
    list_filter = (RoleFilter, "is_active")
    search_fields = ("^username", "first_name", "last_name", "^email")
    list_per_page = 50
    show_full_result_count = False
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("What they may do and see", {"fields": ("is_active", "role", "device_groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    actions = ("deactivate",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(operates=_operates())

    @admin.display(description="name")
    def full_name(self, person: User) -> str:
        return person.get_full_name()

    @admin.display(description="role")
    def role(self, person: User) -> str:
        operates = getattr(person, "operates", False)
        found = Role.ADMIN if person.is_superuser else Role.OPERATOR if operates else Role.VIEWER
        return str(found.label)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if role := form.cleaned_data.get("role"):
            obj.is_superuser = obj.is_staff = role == Role.ADMIN
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if role := form.cleaned_data.get("role"):
            operators, _ = Group.objects.get_or_create(name=OPERATORS)
            if (role == Role.OPERATOR) != form.instance.groups.contains(operators):
                (form.instance.groups.add if role == Role.OPERATOR else form.instance.groups.remove)(operators)
            form.instance.device_groups.set(form.cleaned_data["device_groups"])

    @method_decorator(transaction.atomic)  # so that the audit tells of it within the transaction of the change
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        return super().user_change_password(request, id, form_url)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and _is_last_admin(obj))

    def get_actions(self, request: HttpRequest) -> Any:
        """Deleting many people at once is not offered: whoever has left is deactivated, and keeps the name."""
        found = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    @admin.action(description="Deactivate the selected people: they can no longer sign in", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with transaction.atomic():
            for person in queryset.filter(is_active=True):
                if _is_last_admin(person):
                    self.message_user(request, f"{person} stays: it is the last active admin.", messages.WARNING)
                    continue
                person.is_active = False
                person.save(update_fields=["is_active"])


admin.site.unregister(User)
admin.site.unregister(Group)  # roles say what people may do, groups of devices what they see
admin.site.register(User, PersonAdmin)
