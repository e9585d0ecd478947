"""Plain sentences in our own words: what second moments and unrelated texts are taken from where none are given."""

SENTENCES: tuple[str, ...] = tuple(
    line
    for line in """
The baker opens the shop before the sun is up, and the whole street smells of bread.
Rain had fallen all night, so the path along the river was soft and full of puddles.
My sister plays the violin in a small orchestra that meets on Thursday evenings.
Most trains on this line stop at every station, but the express stops only twice.
A good map shows not only roads but also the height of the hills between them.
The committee met for three hours and could not agree on a date for the next meeting.
Bees visit thousands of flowers a day and carry pollen from one to the next.
He put the letter back into the drawer and decided not to answer it.
In winter the lake freezes so hard that children skate to school across it.
The price of coffee rose again last year because the harvest was poor.
Water boils at a lower temperature on a mountain than it does at the coast.
She learned to drive in an old truck whose second gear never worked.
The museum has a room full of clocks, and no two of them show the same time.
When the power failed, the nurses carried lamps from one bed to the next.
A triangle with three equal sides also has three equal angles.
The farmer sold two horses and bought a tractor with the money.
Please wash your hands before dinner and put the wet boots by the door.
The first chapter of the book describes a village that no longer exists.
Some birds fly thousands of miles every autumn and return to the same nest in spring.
The court decided that the contract was not valid, since one page had never been signed.
We walked along the harbour and counted the fishing boats coming home.
Iron rusts faster where the air is both warm and damp.
The orchestra tuned for a minute, and then the hall became completely silent.
Her grandfather built the table from the wood of a single pear tree.
The software asks for a password every time the screen has been locked.
Nobody knew why the old lighthouse had been painted green.
A litre of milk weighs slightly more than a litre of water.
The team lost its first four games and won all of the others.
Tea was once so precious that it was kept in a box with a lock.
The doctor told him to rest for a week, but he was back at work on Monday.
Volcanoes form where hot rock finds a way up through the crust of the earth.
The librarian stamped the date into the book and pushed it across the desk.
Sand from the desert is sometimes blown across a whole ocean.
The new bridge is wide enough for two lanes, a tram and a path for bicycles.
They planted beans and maize in the same field, one beside the other.
The moon was so bright that we could read the signs without a lamp.
A violin has four strings, and a harp has more than forty.
The company moved its office to a town where rents were lower.
The cat slept on the warm roof of the car until the engine started.
If you multiply any number by zero, the result is zero.
The painter mixed blue and yellow until he had exactly the green of young leaves.
Every spring the river carries away a little more of its northern bank.
The school has two hundred pupils and only nine teachers.
Fresh bread keeps longer in a paper bag than in a plastic one.
An old proverb says that a guest is like a fish: after three days he begins to smell.
The pilot announced that we would land twenty minutes early.
Glass is made by melting sand together with soda and lime.
The villagers repaired the church roof with money from the summer fair.
He speaks four languages, though he says that he dreams in only one of them.
The soup needs salt, a little lemon and another ten minutes.
Snow covered the tracks before the hunters could follow them.
The city council voted to close the old market and build a park in its place.
A whale has to come to the surface to breathe.
Their house stands at the end of a road that is closed in winter.
The experiment was repeated five times, and each time the result was the same.
The tailor measured his arms twice and wrote the numbers on a card.
Many plants close their leaves at night and open them again in the morning.
The actor forgot his lines, and the audience thought that it was part of the play.
A kilometre is a little more than half a mile.
The train was late, so she read the newspaper from the first page to the last.
Copper carries electricity better than iron does.
The children built a dam of stones and watched the stream find a way around it.
The shop around the corner sells buttons, thread and very little else.
Scientists drilled deep into the ice and found air that was trapped long ago.
The letter took three weeks to arrive and had been opened on the way.
An honest answer, even a short one, is better than a long excuse.
The garden is small, but it has an apple tree, a bench and a pond.
The guide warned us to stay on the path because of the loose stones.
Wool keeps warm even when it is wet, which cotton does not.
The king had three sons, and none of them wanted to rule.
The bus driver greets every passenger by name.
A recipe is only a suggestion, my aunt used to say, and added more butter.
The wind turned to the north, and within an hour it was cold.
The bank lends money to small firms that want to buy machines.
The clock in the tower has been five minutes slow for as long as anyone remembers.
Salt was so valuable in old times that soldiers were paid with it.
The dog waited at the gate until the last of the children had come home.
Light needs about eight minutes to travel from the sun to the earth.
The carpenter said that the stairs would be ready by the end of the month.
She wrote the first draft by hand and the second on a borrowed machine.
Mushrooms grow quickly after a warm rain in early autumn.
The meeting began with a report on the costs of the new roof.
A compass needle points to the north because the earth itself is a magnet.
The ferry crosses the strait every two hours except in heavy storms.
His coat was too thin for the weather, but it was the only one that he had.
The judge asked the witness to speak a little louder.
Potatoes came to Europe by ship and were at first grown only for their flowers.
The engineer drew a plan of the pump on the back of an envelope.
On clear nights one can see the lights of the town across the bay.
The factory makes paper from old clothes and sells it to artists.
Owls hear so well that they can find a mouse under the snow.
The museum guard had seen the picture every day for thirty years and still liked it.
Rice needs a great deal of water, and wheat needs much less.
The telephone rang four times, and then it was quiet again.
The runner fell in the second lap, stood up and finished third.
A dictionary lists words in order, and so does the index of a book.
The road to the summit is closed from November until the snow is gone.
The old man fed the pigeons and told them about his day.
The temperature fell by ten degrees between noon and midnight.
The newspaper printed a correction on page seven, where hardly anyone saw it.
The hall was decorated with paper lanterns and branches of fir.
A spider spins a new web almost every night.
The students asked for more time, and the professor gave them one more day.
The castle was built on a rock so that it could be seen from far away.
The nurse counted his pulse and wrote it on the chart.
They sell fish on the pier in the morning and ice cream in the afternoon.
The lawyer read the whole agreement aloud, which took most of the morning.
An orange contains more sugar than most people think.
The radio said that the storm would reach the coast before dawn.
His first novel sold badly, but his second was translated into twenty languages.
The gardener cuts the hedge twice a year, in June and in September.
The mountain railway was opened more than a hundred years ago.
The number of visitors has doubled since the beach was cleaned.
She keeps her pencils in a tin that once held biscuits.
The captain ordered the crew to lower the sails.
Oil floats on water because it is lighter.
A small change in the plan would have saved a great deal of money.
The twins dress alike only on their birthday.
The road crosses the border four times within ten miles.
The singer lost her voice a week before the concert.
Cheese was invented as a way of keeping milk for the winter.
The plumber found a ring in the pipe and gave it back to its owner.
The lecture on bridges was better attended than the one on tunnels.
The earth turns once a day and goes round the sun once a year.
The waiter recommended the lamb, so we both ordered the fish.
Some trees in this forest are older than the town.
The password must have at least eight characters, one of which is a digit.
A heavy mist lay over the fields until ten in the morning.
The boy collected stamps from countries that have since changed their names.
The firm pays its workers every second Friday.
The stage was empty except for a chair and a broken umbrella.
Elephants remember places where they found water years before.
The tax is paid by the seller and not by the buyer.
He repaired radios for a living and listened to none of them.
The bells are rung by hand on Sundays and by a motor on all other days.
A storm broke the mast, and the ship drifted for nine days.
The theatre sells cheap tickets an hour before the play begins.
The cook tasted the sauce, frowned and began again.
The canal joins two rivers that flow into different seas.
She knew the poem by heart and still read it from the page.
The police found the bicycle in a garden two streets away.
The air in the cave was cool and smelled of stone.
The bill was passed by a single vote after a long debate.
The thermometer on the wall has shown the same temperature for years.
A camel can go for many days without drinking.
The mayor opened the new swimming pool by jumping into it.
The coins in the fountain are collected once a month and given to a hospital.
The wolf is shy and is seen far less often than it is heard.
The professor drew a circle on the board and asked what was missing.
The hotel has forty rooms and a view of the railway yard.
Honey does not spoil if the jar is closed.
The tide comes in quickly here, so keep an eye on the water.
The band played until two in the morning, and nobody complained.
The map on the wall still shows a country that was divided long ago.
The apples are picked by hand and packed in straw.
The cable under the sea carries messages between two continents.
The widow sold the farm to her neighbour and moved to the city.
An error in the second line made all the other results wrong.
The parrot repeats whatever the children teach it.
The road was widened last summer, and the old trees were cut down.
The inspector looked at the kitchen, made a note and smiled.
A long drought turned the green hills brown.
The choir rehearses in the gymnasium because the church is too cold.
The writer rose at five every day and stopped work at noon.
The windows face south, so the room is warm even in January.
The merchants met in a hall that is now a restaurant.
The vaccine is kept cold from the factory to the clinic.
The thief left his hat behind, and his name was in it.
Lightning often strikes the tallest tree on a hill.
The dancers practised the same ten steps for a whole afternoon.
The mill was driven by water until the river changed its course.
The goalkeeper broke a finger and played on.
The shelf is too narrow for the atlas, which lies on the floor.
The fire was small, but the smoke could be seen for miles.
The translation is correct, yet none of the jokes survive in it.
The island has no cars, and goods are carried on donkeys.
The accountant found a mistake of three cents and looked for it all night.
In the north the summer nights are so light that the birds hardly sleep.
The bread was still warm when we reached the top of the hill.
A new road would bring more visitors and more noise.
The tunnel is nearly a mile long and has only one lane.
The physicist explained the idea with two oranges and a piece of string.
The carpet was woven by one family over four winters.
The referee stopped the game because of the fog.
The horse knew the way home better than its rider.
The seeds are sown in March and the seedlings are moved outside in May.
The old map gives the depth of the harbour in fathoms.
She closed the window, lit the lamp and began to write.
The river is too shallow for ships in late summer.
The answer to the riddle is printed upside down below it.
The crowd waited in the rain for the winner to arrive.
The glove was found on the stairs and the other one in the attic.
The stone was so heavy that it took six men to move it.
The village has a school, a shop and a post office that opens twice a week.
The jury listened to the pianist from behind a curtain.
""".strip().splitlines()
)
