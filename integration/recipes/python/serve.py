from common import say
from worker import serve

serve(lambda name: say("makes", name))
