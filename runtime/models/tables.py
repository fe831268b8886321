"""Every model, those first that others refer to."""

from runtime.models.allowances import Allowance
from runtime.models.chats import Chat, Run
from runtime.models.codes import EmailChange, Mailing, Recovery, SignUp
from runtime.models.run_events import RunEvent
from runtime.models.security_events import SecurityEvent
from runtime.models.sessions import Session
from runtime.models.spendings import FormerSpending, Spending
from runtime.models.users import User

MODELS = (
    User,
    Session,
    SecurityEvent,
    SignUp,
    Recovery,
    EmailChange,
    Allowance,
    Mailing,
    Chat,
    Run,
    RunEvent,
    Spending,
    FormerSpending,
)
