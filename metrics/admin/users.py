"""Admin pages of users: their role decides what they may do, their device groups what they see."""

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
    "Viewers see the devices of their groups. Operators also manage alerts and alert rules."
    " Admins see and configure everything, including these pages."
)


class Role(TextChoices):
    """Role of a user, which decides its scope (rest.caller)."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def _is_operator() -> Exists:
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
                return queryset.filter(_is_operator(), is_superuser=False)
            case Role.VIEWER:
                return queryset.filter(~_is_operator(), is_superuser=False)
        return queryset


class RoleUserForm(UserChangeForm):
    role = forms.ChoiceField(choices=Role.choices, help_text=ROLES)
    device_groups = forms.ModelMultipleChoiceField(
        DeviceGroup.objects.all(),
        required=False,
        widget=AutocompleteSelectMultiple(Device._meta.get_field("groups"), admin.site),
        help_text="The user sees the devices of these groups; admins see all devices.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["role"] = _role_of(self.instance)
        self.initial["device_groups"] = self.instance.device_groups.all()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        stays_admin = values.get("role") == Role.ADMIN and values.get("is_active")
        if _is_last_admin(self.instance) and not stays_admin:
            raise ValidationError("This is the last active admin: create another one first.")
        return values


def _role_of(user: User) -> Role:
    if user.is_superuser:
        return Role.ADMIN
    return Role.OPERATOR if user.groups.filter(name=OPERATORS).exists() else Role.VIEWER


def _is_last_admin(user: User) -> bool:
    admins = User.objects.filter(is_superuser=True, is_active=True)
    return admins.filter(pk=user.pk).exists() and not admins.exclude(pk=user.pk).exists()


class RoleUserAdmin(UserAdmin):
    title = "Users"
    help = ROLES
    form = RoleUserForm
    list_display = ("username", "full_name", "email", "role", "is_active", "last_login")
    list_filter = (RoleFilter, "is_active")
    search_fields = ("^username", "first_name", "last_name", "^email")
    list_per_page = 50
    show_full_result_count = False
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Personal data", {"fields": ("first_name", "last_name", "email")}),
        ("Permissions", {"fields": ("is_active", "role", "device_groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    actions = ("deactivate",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(is_operator=_is_operator())

    @admin.display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display(description="role")
    def role(self, user: User) -> str:
        is_operator = getattr(user, "is_operator", False)
        role = Role.ADMIN if user.is_superuser else Role.OPERATOR if is_operator else Role.VIEWER
        return str(role.label)

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

    @method_decorator(transaction.atomic)  # so that the audit entry is in the same transaction
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        return super().user_change_password(request, id, form_url)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and _is_last_admin(obj))

    def get_actions(self, request: HttpRequest) -> Any:
        """Remove bulk deletion: users who leave are deactivated and keep their name."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @admin.action(description="Deactivate the selected users: they can no longer sign in", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with transaction.atomic():
            for user in queryset.filter(is_active=True):
                if _is_last_admin(user):
                    self.message_user(
                        request, f"{user} was not deactivated: it is the last active admin.", messages.WARNING
                    )
                    continue
                user.is_active = False
                user.save(update_fields=["is_active"])


admin.site.unregister(User)
admin.site.unregister(Group)  # replaced by roles and device groups
admin.site.register(User, RoleUserAdmin)
