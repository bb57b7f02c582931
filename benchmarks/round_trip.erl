%% The round trip of OTP itself: `escript round_trip.erl CALLERS CALLS` prints gen_server:call round trips per second.
-module(round_trip).
-mode(compile).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2]).

init([]) -> {ok, []}.

handle_call(#{text := Text}, _From, State) -> {reply, #{echo => Text}, State}.

handle_cast(_Message, State) -> {noreply, State}.

main([Callers, Calls]) ->
    {ok, Server} = gen_server:start_link(?MODULE, [], []),
    Each = list_to_integer(Calls) div list_to_integer(Callers),
    Caller = fun() -> calls(Server, Each) end,
    Begun = erlang:monotonic_time(),
    Monitors = [element(2, spawn_monitor(Caller)) || _ <- lists:seq(1, list_to_integer(Callers))],
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || Monitor <- Monitors],
    Taken = erlang:convert_time_unit(erlang:monotonic_time() - Begun, native, nanosecond),
    io:format("~w~n", [list_to_integer(Calls) * 1.0e9 / Taken]).

calls(_Server, 0) -> ok;
calls(Server, Left) ->
    #{echo := _} = gen_server:call(Server, #{text => <<"hello">>}, 30000),
    calls(Server, Left - 1).
