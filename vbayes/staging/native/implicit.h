/* How draws of gammas, betas and Dirichlets move with their shapes: torch's own approximations, number for number, in double. `runtime.h` includes this.

   The formulas and coefficients are those of ATen's `Distributions.h` (PyTorch, BSD licence; Jankowiak & Obermeyer 2018, arXiv:1806.01851). */

static inline double number_or_zero(double x) { return isnan(x) ? 0 : x; }

/* -(d cdf(x; a) / d a) / pdf(x; a), of a gamma with shape a. */
static double gamma_moved(double a, double x) {
  if (x < 0.8) {  /* a Taylor series */
    double numerator = 1, denominator = a, first = 1 / a, second = 1 / (a * a);
    for (int i = 1; i <= 5; i++) {
      numerator *= -x / i;
      denominator += 1;
      first += numerator / denominator;
      second += numerator / (denominator * denominator);
    }
    const double power = pow(x, a), density = pow(x, a - 1) * exp(-x);
    return number_or_zero(-((log(x) - digamma(a)) * power * first - power * second) / density);
  }
  if (a > 8) {  /* Rice's saddle point expansion, at the mode and beside it */
    if (0.9 * a <= x && x <= 1.1 * a) {
      const double first = 1 + 24 * a * (1 + 12 * a);
      const double second = 1440 * a * a + 6 * x * (53 - 120 * x) - 65 * x * x / a + a * (107 + 3600 * x);
      return first * second / (1244160 * (a * a) * (a * a));
    }
    const double root = sqrt(8 * a), third = pow(x - a - a * log(x / a), -1.5);
    const double both = root / (a - x) + (x < a ? -third : third);
    const double first = log(x / a) * both - sqrt(2 / a) * (a + x) / ((a - x) * (a - x));
    return -(1 + 1 / (12 * a) * (1 + 1 / (24 * a))) * x * first / root;
  }
  static const double by_u[3][8] = {  /* the numerator's four, and the denominator's, by the power of v */
    {0.16009398, -0.094634809, 0.025146376, -0.0030648343, 1, 0.32668115, 0.10406089, 0.0014179084},
    {0.53487893, 0.1298071, 0.065735949, -0.0015649758, 0.16639465, 0.020070113, -0.0035938915, -0.00058392623},
    {0.040121004, -0.0065914022, -0.0026286047, -0.0013441777, 0.017050642, -0.0021309326, 0.00085092367, -1.5247877e-07},
  };
  const double u = log(x / a), v = log(a);
  double c[8];
  for (int i = 0; i < 8; i++) c[i] = by_u[0][i] + u * (by_u[1][i] + u * by_u[2][i]);
  return exp((c[0] + v * (c[1] + v * (c[2] + v * c[3]))) / (c[4] + v * (c[5] + v * (c[6] + v * c[7]))));
}
static float gamma_movedf(float a, float x) { return (float)gamma_moved(a, x); }

static inline double stirling(double a) { return 1 + 1 / (12 * a) + 1 / (288 * a * a); }

/* -(d cdf(x; a, b) / d a) / pdf(x; a, b) / (1 - x), of a beta with a + b = total. */
static double beta_moved(double x, double a, double total) {
  const double b = total - a, edge = total * x * (1 - x);
  if (x <= 0.5 && edge < 2.5) {  /* a Taylor series */
    const double factor = digamma(a) - digamma(total) - log(x);
    double numerator = 1, series = 1 / a * (factor + 1 / a);
    for (int i = 1; i <= 10; i++) {
      numerator *= (i - b) * x / i;
      series += numerator / (a + i) * (factor + 1 / (a + i));
    }
    return number_or_zero(x * pow(1 - x, -b) * series);
  }
  if (x >= 0.5 && edge < 0.75) {  /* another, from the other end */
    const double y = 1 - x, factor = digamma(total) - digamma(a);
    double numerator = 1, by = 1, moved = 0, series = factor / b;
    for (int i = 1; i <= 8; i++) {
      numerator *= -y / i;
      moved = moved * (a - i) + by;
      by *= a - i;
      series += numerator / (b + i) * (moved + factor * by);
    }
    return number_or_zero(pow(1 - y, 1 - a) * series);
  }
  if (a > 6 && b > 6) {  /* Rice's saddle point expansion, at the mean and beside it */
    const double mean = a / total, sd = sqrt(a * b / (total + 1)) / total;
    if (mean - 0.1 * sd <= x && x <= mean + 0.1 * sd) {
      const double sum = 47 * x * (b * b) * (b * b) + a * (
          (43 + 20 * (16 + 27 * b) * x) * (b * b) * b + a * (
          3 * (59 + 180 * b - 90 * x) * (b * b) + a * (
          (453 + 1620 * b * (1 - x) - 455 * x) * b + a * (8 * (1 - x) * (135 * b - 11)))));
      return (1 + 12 * a) * (1 + 12 * b) / (total * total) / (1 - x) * sum / (12960 * a * a * a * b * b * (1 + 12 * total));
    }
    const double apart = a * (x - 1) + b * x;
    const double first = (2 * (a * a) * (x - 1) + a * b * (x - 1) - x * (b * b)) / (sqrt(2 * a / b) * pow(total, 1.5) * apart * apart);
    const double fourth = pow(b * log(b / (total * (1 - x))) + a * log(a / (total * x)), -1.5);
    const double whole = first + 0.5 * log(a / (total * x)) * (sqrt(8 * a * b / total) / apart + (x < mean ? fourth : -fourth));
    return stirling(a) * stirling(b) / stirling(total) * (-x / sqrt(2 * a * b / total)) * whole;
  }
  static const double by[2][3][3][4] = {  /* the numerator's and the denominator's, by the powers of u, v and w */
    {{{1.003668233, -0.01061107488, -0.0657888334, 0.01201642863}, {0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033},
      {-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013}},
     {{0.221950385, -0.3187676331, 0.01799915743, 0.01074823814}, {-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057},
      {0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05}},
     {{-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565}, {0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181},
      {0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05}}},
    {{{1, -0.02924021934, -0.04438342661, 0.007285809825}, {0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521},
      {-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149}},
     {{0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273}, {0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956},
      {-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05}},
     {{0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05}, {0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05},
      {-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06}}},
  };
  const double u = log(x), v = log(a) - u, w = log(total) - v;
  double made[2];
  for (int part = 0; part < 2; part++) {
    made[part] = 0;
    for (int i = 2; i >= 0; i--) {
      double sum = 0;
      for (int j = 2; j >= 0; j--) {
        const double* c = by[part][i][j];
        sum = sum * v + (c[0] + w * (c[1] + w * (c[2] + w * c[3])));
      }
      made[part] = made[part] * u + sum;
    }
  }
  return made[0] / made[1] * x * (digamma(total) - digamma(a)) / b;
}
static float beta_movedf(float x, float a, float total) { return (float)beta_moved(x, a, total); }
