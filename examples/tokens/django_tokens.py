"""A Django view that gives its page a token. Django's own sessions say who asks, its CSRF check that the page asks.

In your urls.py: `path("progress-token", progress_token)`. In the page, with the CSRF token in the header `X-CSRFToken`:
`getToken: () => fetch("/progress-token", { method: "POST", headers }).then((answer) => answer.text())`.
"""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from publisher.tokens import mint


@require_POST
@never_cache
def progress_token(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse("Sign in first.", status=401, content_type="text/plain")
    token = mint(projects_of(request.user), sub=str(request.user.pk), seconds=3600)
    return HttpResponse(token, content_type="text/plain")


def projects_of(user: object) -> list[str]:
    """Stands for your models."""
    return ["film_7", "team_3.*"]
