// The atlas's data: scripts that call take_atlas, take_layer and take_details, loaded when needed.
window.featviz = {};
(function (featviz) {
  "use strict";

  const loading = new Map(); // address of a script -> promise of its end
  const indices = new Map(); // layer name -> number
  featviz.layers = []; // number -> its units, once they are here
  const details = new Map(); // "layer/chunk" -> details of its units

  featviz.take_atlas = function (atlas) {
    featviz.atlas = atlas;
    atlas.layers.forEach((layer, number) => indices.set(layer.name, number));
  };

  featviz.take_layer = function (number, rows) {
    const layer = featviz.atlas.layers[number];
    featviz.layers[number] = rows.map(([channel, title, pictures], place) => ({
      layer: number, place, channel, title,
      pictures: pictures.map((row) => picture_of(row)),
      route: featviz.route_of(layer.name, channel, title),
    }));
  };

  featviz.take_details = function (number, chunk, some) {
    details.set(`${number}/${chunk}`, some);
  };

  function picture_of(row) {
    const [technique, file, thumbnail, color, verdict, ...numbers] = row;
    const picture = { technique, file, thumbnail, color, verdict };
    featviz.atlas.numbers.forEach((key, place) => { picture[key] = numbers[place]; });
    return picture;
  }

  function load(source) {
    if (!loading.has(source)) {
      loading.set(source, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = source;
        script.onload = () => { script.remove(); done(); };
        script.onerror = () => {
          script.remove();
          loading.delete(source);
          failed(new Error(`${source} cannot be loaded`));
        };
        document.head.append(script);
      }));
    }
    return loading.get(source);
  }

  // The units of a layer, by its number.
  featviz.units_of = async function (number) {
    if (!featviz.layers[number]) await load(featviz.atlas.layers[number].script);
    return featviz.layers[number];
  };

  // What only a unit's page needs: {similar, pictures}.
  featviz.details_of = async function (unit) {
    const size = featviz.atlas.details;
    const chunk = Math.floor(unit.place / size);
    await load(featviz.atlas.layers[unit.layer].details[chunk]);
    return details.get(`${unit.layer}/${chunk}`)[unit.place % size];
  };

  featviz.layer_number = (name) => indices.has(name) ? indices.get(name) : -1;

  // The unit of a route, or null: channels by number, the others by title.
  featviz.find_unit = async function (layer, channel, title) {
    const number = featviz.layer_number(layer);
    if (number < 0) return null;
    const units = await featviz.units_of(number);
    return units.find((unit) => channel === null
      ? unit.channel === null && unit.title === title
      : unit.channel === channel) || null;
  };

  featviz.route_of = function (layer, channel, title) {
    const name = encodeURIComponent(layer);
    return channel === null
      ? `#/named/${name}/${encodeURIComponent(title)}`
      : `#/unit/${name}/${channel}`;
  };
})(window.featviz);
