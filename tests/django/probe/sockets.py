"""The probe with a WebSocket that sends everything back, by Django Channels: `daphne probe.sockets:application`."""

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from .asgi import application as http


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data, bytes_data=bytes_data)


application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("socket/", Echo.as_asgi())])})
