"""Beanstalk's WSGI entry."""

from model_api.app import create_app

application = create_app()
