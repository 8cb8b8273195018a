"""Public pages of subscriptions. They need no cookie: the token in a link is the permission."""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from dashboard.status_page import subscriptions
from dashboard.status_page.addresses import may_subscribe
from dashboard.status_page.answers import CachedPage, PageKey, find_page
from dashboard.status_page.models import StatusPage
from dashboard.status_page.public_views import page_context, public_url
from rest.errors import InvalidFields, RateLimited
from rest.ip_rate_limit import address_of


def _subscription(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Pass the cached and the stored page to a view. No CSRF token: there is no session that it could protect."""

    def wrapped(request: HttpRequest, slug: str = "", **names: Any) -> HttpResponse:
        host_name = getattr(request, "status_host", "")
        cached = find_page(PageKey(slug, "" if slug else host_name))
        page = StatusPage.objects.filter(page_id=cached.snapshot.id).first() if cached is not None else None
        if cached is None or page is None or not may_subscribe(page):
            raise Http404("there is no status page with subscriptions here")
        response = view(request, cached, page, **names)
        response.headers["Cache-Control"] = "no-store"
        return response

    decorated: Callable[..., HttpResponse] = csrf_exempt(require_http_methods(["GET", "HEAD", "POST"])(wrapped))
    return decorated


def _render(request: HttpRequest, cached: CachedPage, template: str, status: int = 200, **more: Any) -> HttpResponse:
    snapshot = cached.snapshot
    context = page_context(snapshot, public_url(request, snapshot)) | more
    context["computed_at"] = f"{snapshot.computed_at.astimezone(snapshot.zone):%Y-%m-%d %H:%M:%S %Z}"
    return HttpResponse(render_to_string(template, context), status=status)


def _result(
    request: HttpRequest, cached: CachedPage, heading: str, text: str, action: str = "", status: int = 200
) -> HttpResponse:
    return _render(request, cached, "status/result.html", status, heading=heading, text=text, action=action)


@_subscription
def subscribe(request: HttpRequest, cached: CachedPage, page: StatusPage) -> HttpResponse:
    """Show the form; or send a request to confirm, and answer the same for known and unknown addresses."""
    form: dict[str, Any] = {"kind": "email", "address": "", "components": [], "errors": {}, "error": ""}
    if request.method != "POST":
        return _render(request, cached, "status/subscribe.html", form=form)
    form |= {
        "kind": request.POST.get("kind", "email"),
        "address": request.POST.get("address", "")[: subscriptions.ADDRESS_LENGTH],
        "components": request.POST.getlist("components"),
    }
    status = 200
    try:
        subscriptions.check_limits(page, address_of(getattr(request, "scope", {"headers": ()})))
        subscriptions.request_subscription(page, form["kind"], form["address"], form["components"], timezone.now())
    except RateLimited as limited:
        form["error"], status = f"Too many requests. Try again in {limited.retry_after} seconds.", 429
    except InvalidFields as error:
        form["errors"], status = dict(error.fields), 422
    else:
        text = "If the address can be subscribed, a message with a link is on its way. Open the link within two days."
        return _result(request, cached, "Confirm your subscription", text)
    return _render(request, cached, "status/subscribe.html", status, form=form)


@_subscription
def confirm(request: HttpRequest, cached: CachedPage, page: StatusPage, token: str) -> HttpResponse:
    """Confirm a subscription. Opening the link does nothing: mail scanners open links too."""
    confirmation = subscriptions.read_confirmation(page, token)
    if confirmation is None:
        return _result(request, cached, "Link expired", "This link is not valid any more. Subscribe again.", status=404)
    if request.method != "POST":
        text = "You will be notified of incidents and planned maintenance."
        return _result(request, cached, "Confirm your subscription", text, "Confirm subscription")
    subscriptions.confirm(confirmation, timezone.now())
    return _result(request, cached, "Subscribed", "You will be notified of incidents and planned maintenance.")


@_subscription
def unsubscribe(request: HttpRequest, cached: CachedPage, page: StatusPage, token: str) -> HttpResponse:
    """End a subscription: by the button of the page, or in one click from a mail program (RFC 8058)."""
    subscriber = subscriptions.read_unsubscription(page, token)
    if subscriber is not None and request.method != "POST":
        return _result(request, cached, "Unsubscribe", "You will not be notified any more.", "Unsubscribe")
    if subscriber is not None:
        subscriber.delete()
    return _result(request, cached, "Unsubscribed", "You will not be notified any more.")
