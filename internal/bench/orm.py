# What a script does that was written with the application's ORM: load every
# expired message, delete it, commit. Prints the rows and the seconds it took.
import sys
import time
from datetime import datetime

from sqlalchemy import BigInteger, Column, DateTime, Text, create_engine
from sqlalchemy.orm import Session, declarative_base

url, cutoff = sys.argv[1], datetime.fromisoformat(sys.argv[2].replace("Z", "+00:00"))
Base = declarative_base()


class Message(Base):
    __tablename__ = "messages"

    id = Column(BigInteger, primary_key=True)
    conversation_id = Column(BigInteger, nullable=False)
    sender_id = Column(BigInteger, nullable=False)
    role = Column(Text, nullable=False)
    body = Column(Text, nullable=False)
    created_at = Column(DateTime(timezone=True), nullable=False)
    expires_at = Column(DateTime(timezone=True))


engine = create_engine(url.replace("postgres://", "postgresql://", 1))
started = time.monotonic()
with Session(engine) as session:
    expired = session.query(Message).filter(Message.expires_at < cutoff).all()
    for message in expired:
        session.delete(message)
    session.commit()
print(len(expired), time.monotonic() - started)
